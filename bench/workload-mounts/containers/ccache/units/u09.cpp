#include "heavy.hpp"

int u09(const std::string& text) { return matches<9>(text); }
