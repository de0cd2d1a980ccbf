#pragma once

#include <vector>

#include "scene.hpp"

// Where the points must be, by what the cameras saw of them.
std::vector<Vec3> triangulate(const Scene& scene);

// How far from what was seen these points would be seen: the root of the mean square, in pixels.
double reprojection_error(const Scene& scene, const std::vector<Vec3>& points);
