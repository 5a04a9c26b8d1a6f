package check

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// renderValues is Helm's util.ToRenderValues, but for the charts' schemas: Helm
// compiles them anew at each rendering, which takes longer than all the rest.
func renderValues(of *chart.Chart, values map[string]any, options common.ReleaseOptions) (common.Values, error) {
	top, err := util.ToRenderValuesWithSchemaValidation(of, values, options, common.DefaultCapabilities, true)
	if err != nil {
		return nil, err
	}
	if err := validate(of, top["Values"].(common.Values)); err != nil {
		return nil, fmt.Errorf("values don't meet the schema of a chart: %w", err)
	}
	return top, nil
}

// validate holds values against the schemas of a chart and of those that it
// consists of.
func validate(of *chart.Chart, values map[string]any) error {
	var refusals []error
	if of.Schema != nil {
		schema, err := compiled(string(of.Schema))
		if err == nil {
			err = schema.Validate(values)
		}
		refusals = append(refusals, err)
	}
	for _, part := range of.Dependencies() {
		if own, ok := values[part.Name()].(map[string]any); ok {
			refusals = append(refusals, validate(part, own))
		}
	}
	return errors.Join(refusals...)
}

var (
	compiling sync.Mutex
	schemas   = map[string]*jsonschema.Schema{} // by their texts
)

// compiled is a schema, compiled as Helm does it, but once.
func compiled(text string) (*jsonschema.Schema, error) {
	compiling.Lock()
	defer compiling.Unlock()
	if schema, ok := schemas[text]; ok {
		return schema, nil
	}
	read, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	const place = "file:///values.schema.json"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(place, read); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	schema, err := compiler.Compile(place)
	if err != nil {
		return nil, fmt.Errorf("compile the schema: %w", err)
	}
	schemas[text] = schema
	return schema, nil
}
