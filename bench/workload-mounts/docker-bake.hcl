# What `docker buildx bake NAME` reads in the bench of cache mounts, as people write it.

variable "REGISTRY" { default = "localhost:5000/bake" }
variable "RELEASE" { default = "dev" }

group "default" {
  targets = ["uv", "ccache"]
}

target "image" {
  name       = item
  matrix     = { item = ["uv", "ccache"] }
  context    = "containers/${item}"
  platforms  = ["linux/amd64"]
  tags       = ["${REGISTRY}/${item}:${RELEASE}", "${REGISTRY}/${item}:latest"]
  cache-from = ["type=registry,ref=${REGISTRY}/${item}:buildcache"]
  cache-to   = ["type=registry,ref=${REGISTRY}/${item}:buildcache,mode=max"]
  output     = ["type=registry"]
}
