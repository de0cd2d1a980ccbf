#include "heavy.hpp"

int u08(const std::string& text) { return matches<8>(text); }
