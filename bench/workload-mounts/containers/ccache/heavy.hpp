// Templates that take a compiler seconds in every unit that uses them.
#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
int matches(const std::string& text) {
  std::map<std::string, std::vector<std::variant<int, double, std::string>>> found;
  std::unordered_map<std::string, std::function<int(int)>> then;
  std::regex words("([a-z]+)-([0-9]{1,3})", std::regex::icase);
  std::wregex wide(L"[a-z]+");
  for (std::sregex_iterator at(text.begin(), text.end(), words), end; at != end; ++at) {
    found[(*at)[1]].push_back(std::stoi((*at)[2]) + N);
    then[(*at)[1]] = [](int n) { return n + N; };
  }
  std::vector<std::pair<std::string, int>> order;
  for (auto& [name, values] : found) order.emplace_back(name, then[name](int(values.size())));
  std::stable_sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.second < b.second; });
  return int(order.size()) + std::regex_match(std::wstring(L"a"), wide);
}
