// A server of custom resources, made of a current API server's code: it stands behind an older API server as an extension of
// it, which authenticates, authorizes and passes on the requests to our group, and knows namespaces and accounts.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	extensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/openapi"
)

func serve(args []string) error {
	// The older server does not know it, and does not say so: a client that waited for it would wait for ever.
	if err := os.Setenv("KUBE_FEATURE_WatchListClient", "false"); err != nil {
		return err
	}
	o := options.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	// Needs kinds that the older server has in another version only.
	o.RecommendedOptions.Features.EnablePriorityAndFairness = false
	// A permission that was just given counts at once; what is taken away the older server refuses by itself.
	o.RecommendedOptions.Authorization.DenyCacheTTL = 0
	policies := &policyPlugin{}
	plugins := admission.NewPlugins()
	lifecycle.Register(plugins)
	policies.register(plugins)
	o.RecommendedOptions.Admission.Plugins = plugins
	o.RecommendedOptions.Admission.RecommendedPluginOrder = []string{lifecycle.PluginName, policyPluginName}
	o.RecommendedOptions.ExtraAdmissionInitializers = policies.initializers

	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	o.AddFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := o.ServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	if err := o.Complete(); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	config, err := o.Config()
	if err != nil {
		return err
	}
	// Older clients and the older server read this form.
	definitions := openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions)
	config.GenericConfig.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, openapinamer.NewDefinitionNamer(extensions.Scheme))
	groups := &groupList{DelegationTarget: genericapiserver.NewEmptyDelegate()}
	server, err := config.Complete().New(groups)
	if err != nil {
		return err
	}
	groups.definitions = server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister()
	if err := policies.addHooks(server.GenericAPIServer); err != nil {
		return err
	}
	ctx := genericapiserver.SetupSignalContext()
	if err := server.GenericAPIServer.PrepareRun().RunWithContext(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
