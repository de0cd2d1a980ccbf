#include "heavy.hpp"

int u05(const std::string& text) { return matches<5>(text); }
