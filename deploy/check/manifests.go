package check

import (
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Namespace is where the plain manifests are for.
const Namespace = "daemon-gateway"

// Profile is an installation that plain manifests are made for, an overlay.
type Profile struct {
	Name   string
	Values []string // files in the chart's folder, or absolute
}

// Profiles returns the overlays. Both refer to Secrets that are made by hand:
// none is ever part of the manifests.
func Profiles() []Profile {
	secrets := path.Join(Root(), "deploy", "k8s", "values-secrets.yaml")
	return []Profile{
		{Name: "evaluation", Values: []string{"values-evaluation.yaml", secrets}},
		{Name: "production", Values: []string{"values-production.yaml"}},
	}
}

// Manifests returns the files of deploy/k8s that are rendered from the chart, by
// their path there: a base with what the overlays have in common, and for each
// overlay the objects that only it has and patches for those that differ.
func Manifests() (map[string][]byte, error) {
	rendered := map[string]map[string]object{}
	for _, p := range Profiles() {
		objects, err := p.render()
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", p.Name, err)
		}
		rendered[p.Name] = objects
	}
	base := rendered["evaluation"]
	files := map[string][]byte{}
	common := map[string]object{}
	for key, o := range base {
		if inAll(rendered, key) {
			common[key] = o
		}
	}
	if err := writeFolder(files, "base", common, kustomization{Namespace: Namespace}); err != nil {
		return nil, err
	}
	for _, p := range Profiles() {
		own := map[string]object{}
		k := kustomization{Namespace: Namespace, Resources: []string{"../../base"}}
		for _, key := range slices.Sorted(maps.Keys(rendered[p.Name])) {
			o := rendered[p.Name][key]
			from, isCommon := common[key]
			if !isCommon {
				own[key] = o
			} else if operations := diff("", from, o); len(operations) > 0 {
				k.Patches = append(k.Patches, patch{Target: from.target(), Path: key + "-patch.yaml"})
				content, err := yaml.Marshal(operations)
				if err != nil {
					return nil, err
				}
				files[path.Join("overlays", p.Name, key+"-patch.yaml")] = append([]byte(generatedNote), content...)
			}
		}
		if err := writeFolder(files, path.Join("overlays", p.Name), own, k); err != nil {
			return nil, err
		}
	}
	return files, nil
}

const generatedNote = "# Rendered from the chart by \"make manifests\": do not edit.\n"

// object is a rendered object as plain data.
type object map[string]any

func (o object) metadata() map[string]any { return o["metadata"].(map[string]any) }

// key names an object's file.
func (o object) key() string {
	return strings.ToLower(o["kind"].(string)) + "-" + o.metadata()["name"].(string)
}

func (o object) target() map[string]string {
	group, _, hasGroup := strings.Cut(o["apiVersion"].(string), "/")
	target := map[string]string{"kind": o["kind"].(string), "name": o.metadata()["name"].(string)}
	if hasGroup {
		target["group"] = group
	}
	return target
}

// render returns the profile's objects, without Helm's test.
func (p Profile) render() (map[string]object, error) {
	values, err := Values(p.Values...)
	if err != nil {
		return nil, err
	}
	templates, err := Release{Name: "daemon-gateway", Namespace: Namespace, Values: values}.Render()
	if err != nil {
		return nil, err
	}
	objects := map[string]object{}
	for _, t := range templates {
		if strings.HasSuffix(t.Name, ".txt") || strings.Contains(t.Name, "/tests/") {
			continue
		}
		documents, err := Documents(t.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		for _, document := range documents {
			var o object
			if err := yaml.Unmarshal([]byte(document), &o); err != nil {
				return nil, fmt.Errorf("%s: %w", t.Name, err)
			}
			if o["kind"] == "Secret" {
				return nil, fmt.Errorf("%s renders a Secret, which would be the same for everybody", t.Name)
			}
			labels := o.metadata()["labels"].(map[string]any)
			if labels["app.kubernetes.io/component"] == "test" {
				continue // helm's alone
			}
			delete(labels, "helm.sh/chart")
			delete(labels, "app.kubernetes.io/managed-by")
			objects[o.key()] = o
		}
	}
	return objects, nil
}

func inAll(rendered map[string]map[string]object, key string) bool {
	for _, objects := range rendered {
		if _, ok := objects[key]; !ok {
			return false
		}
	}
	return true
}

type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Namespace  string   `json:"namespace"`
	Resources  []string `json:"resources"`
	Patches    []patch  `json:"patches,omitempty"`
}

type patch struct {
	Target map[string]string `json:"target"`
	Path   string            `json:"path"`
}

func writeFolder(files map[string][]byte, folder string, objects map[string]object, k kustomization) error {
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		content, err := yaml.Marshal(objects[key])
		if err != nil {
			return err
		}
		files[path.Join(folder, key+".yaml")] = append([]byte(generatedNote), content...)
		k.Resources = append(k.Resources, key+".yaml")
	}
	k.APIVersion, k.Kind = "kustomize.config.k8s.io/v1beta1", "Kustomization"
	content, err := yaml.Marshal(k)
	files[path.Join(folder, "kustomization.yaml")] = append([]byte(generatedNote), content...)
	return err
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// diff returns what makes to out of from. Lists of different lengths are
// replaced as a whole.
func diff(at string, from, to any) []operation {
	if reflect.DeepEqual(from, to) {
		return nil
	}
	if a, b := asMap(from), asMap(to); a != nil && b != nil {
		return diffMaps(at, a, b)
	}
	a, aIsList := from.([]any)
	b, bIsList := to.([]any)
	if !aIsList || !bIsList || len(a) != len(b) {
		return []operation{{"replace", at, to}}
	}
	var operations []operation
	for i := range a {
		operations = append(operations, diff(fmt.Sprintf("%s/%d", at, i), a[i], b[i])...)
	}
	return operations
}

func asMap(value any) map[string]any {
	switch m := value.(type) {
	case object:
		return m
	case map[string]any:
		return m
	}
	return nil
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

func diffMaps(at string, from, to map[string]any) []operation {
	keys := maps.Clone(from)
	maps.Copy(keys, to)
	var operations []operation
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		path := at + "/" + pointer.Replace(key)
		a, before := from[key]
		b, after := to[key]
		switch {
		case !after:
			operations = append(operations, operation{Op: "remove", Path: path})
		case !before:
			operations = append(operations, operation{"add", path, b})
		default:
			operations = append(operations, diff(path, a, b)...)
		}
	}
	return operations
}
