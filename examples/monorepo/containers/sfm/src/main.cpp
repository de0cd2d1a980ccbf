// sfm: makes up a scene, finds its points again from the images alone, and says how well that went.

#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>

#include "triangulate.hpp"

namespace {

struct Options {
    std::uint32_t seed = 7;
    int cameras = 6;
    int points = 1000;
    double noise = 0.5;
    double max_error = std::numeric_limits<double>::infinity();
    bool json = false;
};

constexpr const char* usage =
    "usage: sfm [--seed N] [--cameras N] [--points N] [--noise PIXELS] [--max-error PIXELS] [--json]\n";

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string flag = argv[i];
        if (flag == "--json") {
            options.json = true;
            continue;
        }
        if (i + 1 == argc) throw std::invalid_argument(flag);
        const std::string value = argv[++i];
        if (flag == "--seed") options.seed = static_cast<std::uint32_t>(std::stoul(value));
        else if (flag == "--cameras") options.cameras = std::stoi(value);
        else if (flag == "--points") options.points = std::stoi(value);
        else if (flag == "--noise") options.noise = std::stod(value);
        else if (flag == "--max-error") options.max_error = std::stod(value);
        else throw std::invalid_argument(flag);
    }
    if (options.cameras < 2 || options.points < 1) throw std::invalid_argument("at least two cameras and one point");
    return options;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::string(argv[1]) == "--help") {
        std::cout << usage;
        return 0;
    }
    try {
        const Options options = parse(argc, argv);
        const Scene scene = make_scene(options.seed, options.cameras, options.points, options.noise);
        const double error = reprojection_error(scene, triangulate(scene));
        if (options.json) {
            std::cout << "{\"points\": " << options.points << ", \"error\": " << error << "}\n";
        } else {
            std::cout << options.points << " points, " << options.cameras << " cameras: error " << error << " pixels\n";
        }
        return error <= options.max_error ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << "sfm: " << error.what() << "\n" << usage;
        return 2;
    }
}
