# On top of docker-bake.hcl: the attributes that skiff gives to the exporters. What is left is what skiff does otherwise.

target "image" {
  cache-to = ["type=registry,ref=${REGISTRY}/${item}:buildcache,mode=max,image-manifest=true,oci-mediatypes=true"]
  output   = ["type=image,push=true,store=false,oci-mediatypes=false,compression=gzip,force-compression=true"]
  attest   = ["type=provenance,disabled=true"]
}
