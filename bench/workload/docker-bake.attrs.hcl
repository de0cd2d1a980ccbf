# docker-bake.hcl with the attributes that skiff gives to the exporters. What is left is what skiff does otherwise.

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
  cache-to   = ["type=registry,ref=${REGISTRY}/${item}:buildcache,mode=max,image-manifest=true,oci-mediatypes=true"]
  output     = ["type=image,push=true,store=false,oci-mediatypes=false,compression=gzip,force-compression=true"]
  attest     = ["type=provenance,disabled=true"]
}
