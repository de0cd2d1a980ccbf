#include "scene.hpp"

#include <random>

Scene make_scene(std::uint32_t seed, int cameras, int points, double noise) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> in_box(-1.0, 1.0);
    std::normal_distribution<double> pixel_error(0.0, 1.0);

    Scene scene;
    for (int i = 0; i < cameras; ++i) {
        const double angle = 2.0 * M_PI * i / cameras;
        scene.cameras.emplace_back(Vec3{6.0 * std::cos(angle), 6.0 * std::sin(angle), 2.0}, Vec3{0.0, 0.0, 0.0});
    }
    for (int i = 0; i < points; ++i) {
        scene.points.push_back({in_box(random), in_box(random), in_box(random)});
    }
    for (const Camera& camera : scene.cameras) {
        auto& image = scene.images.emplace_back();
        for (const Vec3& point : scene.points) {
            const Vec2 seen = camera.project(point);
            image.push_back({seen[0] + noise * pixel_error(random), seen[1] + noise * pixel_error(random)});
        }
    }
    return scene;
}
