#include "heavy.hpp"

int u02(const std::string& text) { return matches<2>(text); }
