package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
)

// statement says how the files of a release came about: an in-toto Statement
// (v1) with a predicate of SLSA Provenance (v1).
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string         `json:"buildType"`
	ExternalParameters   map[string]any `json:"externalParameters"`
	InternalParameters   map[string]any `json:"internalParameters"`
	ResolvedDependencies []dependency   `json:"resolvedDependencies"`
}

type dependency struct {
	Name   string            `json:"name"`
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

type runDetails struct {
	Builder struct {
		ID string `json:"id"`
	} `json:"builder"`
}

const (
	statementType  = "https://in-toto.io/Statement/v1"
	provenanceType = "https://slsa.dev/provenance/v1"
	buildType      = repository + "/blob/main/docs/releasing.md#provenance"
)

// provenance returns what is said of these subjects. It has no times and no names of
// machines, so that whoever builds the same release can say the same.
func (s source) provenance(o buildOptions, subjects []subject) (statement, error) {
	sums := []dependency{{Name: "source", URI: "git+" + repository, Digest: map[string]string{"gitCommit": s.revision}}}
	for _, file := range []string{"go.sum", "deploy/check/go.sum"} {
		digest, err := digestOf(filepath.Join(s.root, filepath.FromSlash(file)))
		if err != nil {
			return statement{}, err
		}
		sums = append(sums, dependency{
			Name: file, URI: "git+" + repository + "@" + s.revision + "#" + file, Digest: map[string]string{"sha256": digest},
		})
	}
	sums = append(sums, dependency{Name: "go", URI: "pkg:generic/go@" + runtime.Version()})
	platforms := make([]string, len(o.Platforms))
	for i, p := range o.Platforms {
		platforms[i] = p.os + "/" + p.arch
	}
	said := statement{Type: statementType, Subject: subjects, PredicateType: provenanceType, Predicate: predicate{
		BuildDefinition: buildDefinition{
			BuildType:          buildType,
			ExternalParameters: map[string]any{"version": o.Version, "registry": o.Registry, "platforms": platforms},
			InternalParameters: map[string]any{
				"programs": o.Programs, "flags": compiler.flags, "environment": compiler.environment,
			},
			ResolvedDependencies: sums,
		},
	}}
	said.Predicate.RunDetails.Builder.ID = o.Builder
	return said, nil
}

func (s statement) write(file string) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return text, os.WriteFile(file, append(text, '\n'), 0o644)
}
