// Kubernetes' own API server. Its modules name each other as v0.0.0, which only go.mod's replacements can mend, so `go install` cannot build it.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
