#pragma once

#include "vec.hpp"

// A pinhole camera.
class Camera {
public:
    // Stands at `position` and looks at `target`.
    Camera(const Vec3& position, const Vec3& target);

    const Vec3& position() const { return position_; }
    // Where a point of space is in the image.
    Vec2 project(const Vec3& point) const;
    // The direction from which a point of the image came.
    Vec3 ray(const Vec2& pixel) const;

private:
    Vec3 position_, right_, down_, forward_;
};
