#include "camera.hpp"

namespace {
constexpr double focal_length = 800.0;
constexpr Vec2 centre = {320.0, 240.0};
}  // namespace

Camera::Camera(const Vec3& position, const Vec3& target)
    : position_(position),
      right_(),
      down_(),
      forward_(normalised(target - position)) {
    right_ = normalised(cross(forward_, {0.0, 0.0, 1.0}));
    down_ = cross(forward_, right_);
}

Vec2 Camera::project(const Vec3& point) const {
    const Vec3 seen = point - position_;
    const double depth = dot(seen, forward_);
    return {centre[0] + focal_length * dot(seen, right_) / depth, centre[1] + focal_length * dot(seen, down_) / depth};
}

Vec3 Camera::ray(const Vec2& pixel) const {
    const double x = (pixel[0] - centre[0]) / focal_length;
    const double y = (pixel[1] - centre[1]) / focal_length;
    return normalised(forward_ + x * right_ + y * down_);
}
