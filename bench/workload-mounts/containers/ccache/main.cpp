#include <cstdio>
#include <string>

int u00(const std::string&);
int u01(const std::string&);
int u02(const std::string&);
int u03(const std::string&);
int u04(const std::string&);
int u05(const std::string&);
int u06(const std::string&);
int u07(const std::string&);
int u08(const std::string&);
int u09(const std::string&);
int u10(const std::string&);
int u11(const std::string&);

int main() {
  const std::string text = "a-1 b-22 a-333";
  std::printf("%d\n", u00(text) + u01(text) + u02(text) + u03(text) + u04(text) + u05(text) + u06(text) + u07(text) + u08(text) + u09(text) + u10(text) + u11(text));
}
