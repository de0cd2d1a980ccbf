#include "triangulate.hpp"

#include <utility>

namespace {

using Matrix3 = std::array<Vec3, 3>;

// Solves a·x = b by Gaussian elimination with pivoting.
Vec3 solve(Matrix3 a, Vec3 b) {
    for (int column = 0; column < 3; ++column) {
        int pivot = column;
        for (int row = column + 1; row < 3; ++row) {
            if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
        }
        std::swap(a[column], a[pivot]);
        std::swap(b[column], b[pivot]);
        for (int row = column + 1; row < 3; ++row) {
            const double factor = a[row][column] / a[column][column];
            a[row] = a[row] - factor * a[column];
            b[row] -= factor * b[column];
        }
    }
    Vec3 x{};
    for (int row = 2; row >= 0; --row) {
        double rest = b[row];
        for (int column = row + 1; column < 3; ++column) rest -= a[row][column] * x[column];
        x[row] = rest / a[row][row];
    }
    return x;
}

}  // namespace

std::vector<Vec3> triangulate(const Scene& scene) {
    std::vector<Vec3> points;
    for (std::size_t i = 0; i < scene.points.size(); ++i) {
        // The distance of x to a ray (p, d) is |(I - d·dᵀ)(x - p)|; the normal equations add these projections up.
        Matrix3 a{};
        Vec3 b{};
        for (std::size_t c = 0; c < scene.cameras.size(); ++c) {
            const Vec3 d = scene.cameras[c].ray(scene.images[c][i]);
            for (int row = 0; row < 3; ++row) {
                Vec3 projection = (-d[row]) * d;
                projection[row] += 1.0;
                a[row] = a[row] + projection;
                b[row] += dot(projection, scene.cameras[c].position());
            }
        }
        points.push_back(solve(a, b));
    }
    return points;
}

double reprojection_error(const Scene& scene, const std::vector<Vec3>& points) {
    double sum = 0.0;
    for (std::size_t c = 0; c < scene.cameras.size(); ++c) {
        for (std::size_t i = 0; i < points.size(); ++i) {
            const Vec2 pixel = scene.cameras[c].project(points[i]);
            const Vec2 seen = scene.images[c][i];
            sum += (pixel[0] - seen[0]) * (pixel[0] - seen[0]) + (pixel[1] - seen[1]) * (pixel[1] - seen[1]);
        }
    }
    return std::sqrt(sum / static_cast<double>(scene.cameras.size() * points.size()));
}
