#include "heavy.hpp"

int u11(const std::string& text) { return matches<11>(text); }
