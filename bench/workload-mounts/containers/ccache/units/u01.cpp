#include "heavy.hpp"

int u01(const std::string& text) { return matches<1>(text); }
