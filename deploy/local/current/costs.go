// How near the rules of a definition are to the limits of their estimated cost. The refusal itself is the validation's.
package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type ruleCost struct {
	path string
	cost uint64
}

type definitionCosts struct {
	rules []ruleCost
	total uint64
	// What does not compile.
	errors []string
}

// Rules are compiled as on create, and the estimate is taken times the number of places where the schema lets one apply.
func ruleCosts(crd *apiextensions.CustomResourceDefinition, env *environment.EnvSet) (*definitionCosts, error) {
	costs := &definitionCosts{}
	for _, version := range crd.Spec.Versions {
		schema := version.Schema
		if schema == nil {
			schema = crd.Spec.Validation
		}
		root := validation.RootCELContext(schema.OpenAPIV3Schema)
		if err := costs.add(env, root, schema.OpenAPIV3Schema, field.NewPath(version.Name)); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(costs.rules, func(a, b ruleCost) int { return cmp.Compare(b.cost, a.cost) })
	return costs, nil
}

func (c *definitionCosts) add(env *environment.EnvSet, node *validation.CELSchemaContext, schema *apiextensions.JSONSchemaProps, path *field.Path) error {
	if len(schema.XValidations) > 0 {
		info, err := node.TypeInfo()
		if err != nil {
			return fmt.Errorf("%v: %w", path, err)
		}
		results, err := cel.Compile(info.Schema, info.DeclType, celconfig.PerCallLimit, env, cel.NewExpressionsEnvLoader())
		if err != nil {
			return fmt.Errorf("%v: %w", path, err)
		}
		for i, result := range results {
			times := result.MaxCardinality
			if node.MaxCardinality != nil {
				times = *node.MaxCardinality
			}
			for _, refused := range []*apiservercel.Error{result.Error, result.MessageExpressionError} {
				if refused != nil {
					c.errors = append(c.errors, fmt.Sprintf("%v rule %d: %v", path, i, refused))
				}
			}
			cost := result.MaxCost*times + result.MessageExpressionMaxCost
			c.rules = append(c.rules, ruleCost{fmt.Sprintf("%v rule %d", path, i), cost})
			c.total += cost
		}
	}
	for name, child := range schema.Properties {
		if err := c.add(env, node.ChildPropertyContext(&child, name), &child, path.Child(name)); err != nil {
			return err
		}
	}
	if items := schema.Items; items != nil && items.Schema != nil {
		if err := c.add(env, node.ChildItemsContext(items.Schema), items.Schema, path.Key("*")); err != nil {
			return err
		}
	}
	if values := schema.AdditionalProperties; values != nil && values.Schema != nil {
		if err := c.add(env, node.ChildAdditionalPropertiesContext(values.Schema), values.Schema, path.Key("*")); err != nil {
			return err
		}
	}
	return nil
}

func (c *definitionCosts) print(out io.Writer, name string) {
	share := func(cost, limit uint64) float64 { return float64(cost) * 100 / float64(limit) }
	fmt.Fprintf(out, "definition %s: %d rules, estimated cost %d (%.2f %% of the limit of a definition)\n",
		name, len(c.rules), c.total, share(c.total, validation.StaticEstimatedCRDCostLimit))
	for _, rule := range c.rules[:min(3, len(c.rules))] {
		fmt.Fprintf(out, "  %s: %d (%.2f %% of the limit of a rule)\n", rule.path, rule.cost, share(rule.cost, validation.StaticEstimatedCostLimit))
	}
}
