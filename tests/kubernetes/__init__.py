"""What we ship for Kubernetes, against a real kube-apiserver and etcd: `make kubernetes`. Not part of `make integration`: the server takes
seven minutes of processor time to build."""
