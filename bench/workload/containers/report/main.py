import pandas as pd
from jinja2 import Template

PAGE = Template("<h1>{{ title }}</h1>{{ table }}")

if __name__ == "__main__":
    table = pd.DataFrame({"model": ["ridge"], "error": [0.1]}).to_html()
    print(PAGE.render(title="Models", table=table))
