#include "heavy.hpp"

int u03(const std::string& text) { return matches<3>(text); }
