#include "heavy.hpp"

int u04(const std::string& text) { return matches<4>(text); }
