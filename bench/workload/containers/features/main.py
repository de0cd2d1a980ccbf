import pandas as pd


def features(orders: pd.DataFrame) -> pd.DataFrame:
    by_customer = orders.groupby("customer")
    return pd.DataFrame({"orders": by_customer.size(), "spent": by_customer["amount"].sum()})


if __name__ == "__main__":
    print(features(pd.DataFrame({"customer": ["a", "b", "a"], "amount": [3.0, 4.0, 5.0]})))
