#include "heavy.hpp"

int u00(const std::string& text) { return matches<0>(text); }
