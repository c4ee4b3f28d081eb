// The admission policies of the served custom resources: the plugin is a current API server's own, the policies are custom
// resources of this very server, since the older server behind which it stands has no such kinds.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/informers/admissionregistration"
	"k8s.io/client-go/kubernetes"
)

const policyPluginName = validating.PluginName

//go:embed policy-crds.yaml
var policyDefinitions []byte

type policyPlugin struct {
	*validating.Plugin
	// Where the policies are: this server. Set when the server's own client is known.
	policies informers.SharedInformerFactory
}

func (p *policyPlugin) register(plugins *admission.Plugins) {
	plugins.Register(policyPluginName, func(config io.Reader) (admission.Interface, error) {
		plugin, err := validating.NewPlugin(config)
		p.Plugin = plugin
		return p, err
	})
}

// Definitions are let through: without those of the policies there are no policies to be ready for.
func (p *policyPlugin) Validate(ctx context.Context, attributes admission.Attributes, o admission.ObjectInterfaces) error {
	if attributes.GetResource().Group == apiextensionsv1.GroupName {
		return nil
	}
	return p.Plugin.Validate(ctx, attributes, o)
}

func (p *policyPlugin) initializers(config *genericapiserver.RecommendedConfig) ([]admission.PluginInitializer, error) {
	client, err := kubernetes.NewForConfig(config.LoopbackClientConfig)
	if err != nil {
		return nil, err
	}
	p.policies = informers.NewSharedInformerFactory(client, 0)
	return []admission.PluginInitializer{&twoSources{namespaces: config.SharedInformerFactory, plugin: p}}, nil
}

// twoSources comes after the common initializer, and puts the policies of this server in the place of the other server's.
type twoSources struct {
	namespaces informers.SharedInformerFactory
	plugin     *policyPlugin
}

func (t *twoSources) Initialize(plugin admission.Interface) {
	if plugin == admission.Interface(t.plugin) {
		t.plugin.SetExternalKubeInformerFactory(&bothFactories{t.namespaces, t.plugin.policies})
	}
}

type bothFactories struct {
	informers.SharedInformerFactory
	policies informers.SharedInformerFactory
}

func (b *bothFactories) Admissionregistration() admissionregistration.Interface {
	return b.policies.Admissionregistration()
}

func (p *policyPlugin) addHooks(server *genericapiserver.GenericAPIServer) error {
	return server.AddPostStartHook("serve-admission-policies", func(hook genericapiserver.PostStartHookContext) error {
		client, err := clientset.NewForConfig(hook.LoopbackClientConfig)
		if err != nil {
			return err
		}
		definitions, err := parse[apiextensionsv1.CustomResourceDefinition](policyDefinitions, "CustomResourceDefinition")
		if err != nil {
			return err
		}
		for i := range definitions {
			if err := define(hook, client, &definitions[i]); err != nil {
				return err
			}
		}
		p.policies.Start(hook.Done())
		return nil
	})
}

// define waits until the kind is served: what asks for it earlier is told that there is none, and asks again much later.
func define(ctx context.Context, client clientset.Interface, definition *apiextensionsv1.CustomResourceDefinition) error {
	all := client.ApiextensionsV1().CustomResourceDefinitions()
	// The first requests may come before the server can store anything.
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := all.Create(ctx, definition, metav1.CreateOptions{})
		if errors.IsInvalid(err) || errors.IsBadRequest(err) {
			return false, err
		}
		return err == nil || errors.IsAlreadyExists(err), nil
	})
	if err != nil {
		return fmt.Errorf("defining %s: %w", definition.Name, err)
	}
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		now, err := all.Get(ctx, definition.Name, metav1.GetOptions{})
		if err != nil {
			return false, nil
		}
		for _, condition := range now.Status.Conditions {
			if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
}
