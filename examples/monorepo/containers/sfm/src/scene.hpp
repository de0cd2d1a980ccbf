#pragma once

#include <cstdint>
#include <vector>

#include "camera.hpp"

// Points, the cameras around them, and what each camera saw of each point.
struct Scene {
    std::vector<Camera> cameras;
    std::vector<Vec3> points;
    // By camera, then by point.
    std::vector<std::vector<Vec2>> images;
};

// Makes up a scene; `noise` is the standard deviation of what is seen, in pixels. The same seed gives the same scene.
Scene make_scene(std::uint32_t seed, int cameras, int points, double noise);
