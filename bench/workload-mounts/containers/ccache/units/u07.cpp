#include "heavy.hpp"

int u07(const std::string& text) { return matches<7>(text); }
