#include "heavy.hpp"

int u06(const std::string& text) { return matches<6>(text); }
