// The list of groups, which a server of custom resources by itself does not tell: where it is a part of a whole API server,
// another part does.
package main

import (
	"encoding/json"
	"net/http"
	"slices"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// groupList answers what no other part of the server does.
type groupList struct {
	genericapiserver.DelegationTarget
	// Set when the server is made.
	definitions listers.CustomResourceDefinitionLister
}

func (g *groupList) UnprotectedHandler() http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/apis" && request.URL.Path != "/apis/" {
			http.NotFound(out, request)
			return
		}
		groups, err := g.groups()
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Header().Set("Content-Type", "application/json")
		// Whoever asked may be gone.
		_ = json.NewEncoder(out).Encode(groups)
	})
}

func (g *groupList) groups() (*metav1.APIGroupList, error) {
	definitions, err := g.definitions.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	versions := map[string][]string{apiextensionsv1.GroupName: {"v1"}}
	for _, definition := range definitions {
		for _, version := range definition.Spec.Versions {
			group := definition.Spec.Group
			if version.Served && !slices.Contains(versions[group], version.Name) {
				versions[group] = append(versions[group], version.Name)
			}
		}
	}
	list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for name, all := range versions {
		group := metav1.APIGroup{Name: name}
		for _, version := range all {
			group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + version, Version: version})
		}
		group.PreferredVersion = group.Versions[0]
		list.Groups = append(list.Groups, group)
	}
	return list, nil
}
