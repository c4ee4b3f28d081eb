// What a current server says to an admission policy: whether its expressions compile, and whether they fit the definitions.
package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// checkPolicy compiles what the server compiles on create, by the rules for new expressions, and then checks the types as the
// server's own controller does for the policy's status.
func checkPolicy(out io.Writer, policy *admissionv1.ValidatingAdmissionPolicy, crds []apiextensionsv1.CustomResourceDefinition) (int, error) {
	refusals, expressions := 0, 0
	for _, era := range eras {
		refused, seen, err := compilePolicy(out, policy, era)
		if err != nil {
			return 0, err
		}
		refusals, expressions = refusals+refused, seen
	}
	schemas, mapper, versions, err := served(crds)
	if err != nil {
		return 0, err
	}
	checker := &validating.TypeChecker{SchemaResolver: schemas, RestMapper: mapper}
	// The server checks no types where a policy is for all versions.
	policy = policy.DeepCopy()
	for i := range policy.Spec.MatchConstraints.ResourceRules {
		rule := &policy.Spec.MatchConstraints.ResourceRules[i]
		if slices.Equal(rule.APIVersions, []string{"*"}) {
			rule.APIVersions = versions
		}
	}
	context := checker.CreateContext(policy)
	// Nor where it finds no kind, and says nothing of it: no kind has this field.
	if probe := checker.CheckExpression(context, "object.noSuchField == 1"); len(probe) == 0 {
		return 0, fmt.Errorf("%s matches no kind that is known here", policy.Name)
	}
	for _, warning := range checker.Check(policy) {
		refusals++
		fmt.Fprintf(out, "WARNED %s %s: %s\n", policy.Name, warning.FieldRef, warning.Warning)
	}
	for i := range policy.Spec.MatchConditions {
		condition := &policy.Spec.MatchConditions[i]
		for _, result := range checker.CheckExpression(context, condition.Expression) {
			refusals++
			fmt.Fprintf(out, "WARNED %s matchConditions %s: %v\n", policy.Name, condition.Name, result)
		}
	}
	fmt.Fprintf(out, "policy %s: %d expressions\n", policy.Name, expressions)
	return refusals, nil
}

// compilePolicy compiles every expression as on create, and tells how many are refused, and how many there are.
func compilePolicy(out io.Writer, policy *admissionv1.ValidatingAdmissionPolicy, era era) (refusals, expressions int, err error) {
	compiler, err := plugincel.NewCompositedCompiler(era.env())
	if err != nil {
		return 0, 0, err
	}
	compile := func(where string, accessor plugincel.ExpressionAccessor, authorizer bool) {
		expressions++
		options := plugincel.OptionalVariableDeclarations{HasParams: policy.Spec.ParamKind != nil, HasAuthorizer: authorizer}
		if result := compiler.CompileCELExpression(accessor, options, environment.NewExpressions); result.Error != nil {
			refusals++
			fmt.Fprintf(out, "REFUSED %s by Kubernetes %s, %s: %v\n", policy.Name, era.server, where, result.Error)
		}
	}
	for i := range policy.Spec.MatchConditions {
		condition := &policy.Spec.MatchConditions[i]
		compile("matchConditions "+condition.Name, (*matchconditions.MatchCondition)(condition), true)
	}
	for i, one := range policy.Spec.Validations {
		compile(fmt.Sprintf("validations[%d].expression", i), &validating.ValidationCondition{Expression: one.Expression}, true)
		if one.MessageExpression != "" {
			accessor := &validating.MessageExpressionCondition{MessageExpression: one.MessageExpression}
			compile(fmt.Sprintf("validations[%d].messageExpression", i), accessor, false)
		}
	}
	return refusals, expressions, nil
}

// The published schemas and resources of the definitions, as a server that serves them would tell.
func served(crds []apiextensionsv1.CustomResourceDefinition) (resolver.SchemaResolver, meta.RESTMapper, []string, error) {
	schemas := publishedSchemas{}
	var groups []schema.GroupVersion
	var versions []string
	for _, crd := range crds {
		for _, version := range crd.Spec.Versions {
			groups = append(groups, schema.GroupVersion{Group: crd.Spec.Group, Version: version.Name})
			// A policy for all versions is one for kinds of ours.
			if crd.Spec.Group != "" && !slices.Contains(versions, version.Name) {
				versions = append(versions, version.Name)
			}
		}
	}
	mapper := meta.NewDefaultRESTMapper(groups)
	for i := range crds {
		crd := &crds[i]
		for _, version := range crd.Spec.Versions {
			group := schema.GroupVersion{Group: crd.Spec.Group, Version: version.Name}
			kind := group.WithKind(crd.Spec.Names.Kind)
			mapper.AddSpecific(kind, group.WithResource(crd.Spec.Names.Plural), group.WithResource(crd.Spec.Names.Singular), meta.RESTScopeNamespace)
			published, err := builder.BuildOpenAPIV3(crd, version.Name, builder.Options{})
			if err != nil {
				return nil, nil, nil, fmt.Errorf("%s: %w", crd.Name, err)
			}
			for name, one := range published.Components.Schemas {
				var kinds []schema.GroupVersionKind
				if err := one.Extensions.GetObject("x-kubernetes-group-version-kind", &kinds); err != nil {
					return nil, nil, nil, err
				}
				for _, served := range kinds {
					if served == kind {
						schemas[kind] = publishedKind{published.Components.Schemas, name}
					}
				}
			}
		}
	}
	return schemas, mapper, versions, nil
}

type publishedKind struct {
	all  map[string]*spec.Schema
	root string
}

type publishedSchemas map[schema.GroupVersionKind]publishedKind

func (p publishedSchemas) ResolveSchema(kind schema.GroupVersionKind) (*spec.Schema, error) {
	one, ok := p[kind]
	if !ok {
		return nil, fmt.Errorf("%v: %w", kind, resolver.ErrSchemaNotFound)
	}
	return resolver.PopulateRefs(func(ref string) (*spec.Schema, bool) {
		found, ok := one.all[strings.TrimPrefix(ref, "#/components/schemas/")]
		return found, ok
	}, one.root)
}
