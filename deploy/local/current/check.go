// Asks the validation of a current API server, the very functions that a request to create these objects runs through.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/cel/environment"
	sigsyaml "sigs.k8s.io/yaml"
)

// A server takes no expressions in new objects that the server one minor version older would not understand: what this one
// takes, and what the oldest that is supported takes.
type era struct {
	server string
	knows  *version.Version
}

var eras = []era{{"1.36", environment.DefaultCompatibilityVersion()}, {"1.30", version.MajorMinor(1, 29)}}

func (e era) env() *environment.EnvSet {
	return environment.MustBaseEnvSet(e.knows)
}

// Kinds of Kubernetes' own that policies are for.
//
//go:embed builtin-kinds.yaml
var builtinKinds []byte

func check(out io.Writer, crdFile, policyFile string) error {
	crds, err := documents[apiextensionsv1.CustomResourceDefinition](crdFile, "CustomResourceDefinition")
	if err != nil {
		return err
	}
	if len(crds) == 0 {
		return fmt.Errorf("%s has no definitions", crdFile)
	}
	refused := 0
	for i := range crds {
		count, err := checkDefinition(out, &crds[i])
		if err != nil {
			return err
		}
		refused += count
	}
	policies, err := documents[admissionv1.ValidatingAdmissionPolicy](policyFile, "ValidatingAdmissionPolicy")
	if err != nil {
		return err
	}
	if len(policies) == 0 {
		return fmt.Errorf("%s has no policies", policyFile)
	}
	builtin, err := parse[apiextensionsv1.CustomResourceDefinition](builtinKinds, "CustomResourceDefinition")
	if err != nil {
		return err
	}
	kinds := append(crds, builtin...)
	for i := range policies {
		count, err := checkPolicy(out, &policies[i], kinds)
		if err != nil {
			return err
		}
		refused += count
	}
	if refused > 0 {
		return fmt.Errorf("%d refusals", refused)
	}
	return nil
}

func documents[T any](file, kind string) ([]T, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all, err := parse[T](text, kind)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

// parse reads the objects of one kind from YAML documents. Fields that the type does not have are an error: a server would
// drop them, and warn whoever asked for it.
func parse[T any](text []byte, kind string) ([]T, error) {
	var all []T
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var meta struct {
			Kind string `json:"kind"`
		}
		if err := sigsyaml.Unmarshal(document, &meta); err != nil {
			return nil, err
		}
		if meta.Kind != kind {
			continue
		}
		var one T
		if err := sigsyaml.UnmarshalStrict(document, &one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
}

// checkDefinition does what the server does with a definition on create, from defaulting to the estimated cost of rules.
func checkDefinition(out io.Writer, crd *apiextensionsv1.CustomResourceDefinition) (int, error) {
	ctx := context.Background()
	crd = crd.DeepCopy()
	apiserver.Scheme.Default(crd)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiserver.Scheme.Convert(crd, internal, nil); err != nil {
		return 0, fmt.Errorf("%s: %w", crd.Name, err)
	}
	strategy := customresourcedefinition.NewStrategy(apiserver.Scheme)
	strategy.PrepareForCreate(ctx, internal)
	refusals := 0
	for _, refusal := range strategy.Validate(ctx, internal) {
		refusals++
		fmt.Fprintf(out, "REFUSED %s: %v\n", crd.Name, refusal)
	}
	for _, warning := range strategy.WarningsOnCreate(ctx, internal) {
		refusals++
		fmt.Fprintf(out, "WARNED %s: %s\n", crd.Name, warning)
	}
	for _, era := range eras {
		costs, err := ruleCosts(internal, era.env())
		if err != nil {
			return 0, fmt.Errorf("%s: %w", crd.Name, err)
		}
		for _, refusal := range costs.errors {
			refusals++
			fmt.Fprintf(out, "REFUSED %s by Kubernetes %s: %s\n", crd.Name, era.server, refusal)
		}
		if era == eras[0] {
			costs.print(out, crd.Name)
		}
	}
	return refusals, nil
}
