// Reads Kubernetes custom resources, YAML on standard input, strictly into the Go types of those who define them: an unknown field, a
// repeated one and a wrong type are errors, as they are for `kubectl apply --validate=strict`.
//
// Prints the kind of each, or what is wrong. Exit code: 0 all are good, 1 one is not.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	failed := false
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin)); ; {
		text, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		kind, err := read(text)
		if err != nil {
			failed = true
			fmt.Printf("%s: %v\n", kind, err)
		} else {
			fmt.Println(kind)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func read(text []byte) (string, error) {
	var head struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(text, &head); err != nil {
		return "", err
	}
	kind := head.APIVersion + "/" + head.Kind
	switch kind {
	case "keda.sh/v1alpha1/ScaledObject":
		return kind, yaml.UnmarshalStrict(text, &keda.ScaledObject{})
	case "monitoring.coreos.com/v1/PrometheusRule":
		return kind, yaml.UnmarshalStrict(text, &monitoring.PrometheusRule{})
	case "monitoring.coreos.com/v1/ServiceMonitor":
		return kind, yaml.UnmarshalStrict(text, &monitoring.ServiceMonitor{})
	}
	return kind, errors.New("no such kind is known here")
}
