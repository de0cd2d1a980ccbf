#include "heavy.hpp"

int u10(const std::string& text) { return matches<10>(text); }
