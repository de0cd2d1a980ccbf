# What `docker buildx bake` reads in the bench, as people write it: the registry cache with every step in it, and a push.
# Provenance and the exporter's attributes are buildx's defaults.

variable "REGISTRY" { default = "localhost:5000/bake" }
variable "RELEASE" { default = "dev" }

group "default" {
  targets = ["features", "train", "inference", "report"]
}

target "image" {
  name       = item
  matrix     = { item = ["features", "train", "inference", "report"] }
  context    = "containers/${item}"
  platforms  = ["linux/amd64"]
  tags       = ["${REGISTRY}/${item}:${RELEASE}", "${REGISTRY}/${item}:latest"]
  cache-from = ["type=registry,ref=${REGISTRY}/${item}:buildcache"]
  cache-to   = ["type=registry,ref=${REGISTRY}/${item}:buildcache,mode=max"]
  output     = ["type=registry"]
}
