package settings

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
)

// Files are where settings have come from, by their environment names. A field of
// this type, tagged kong:"-", in any struct of a configuration is filled by Parse:
// for who reads a secret again when its file changes.
type Files map[string]string

// ReadSecret reads the file of a setting of type Secret, as Parse does.
func ReadSecret(path string) (Secret, error) { return readInto[Secret](path) }

// ReadSecrets reads the file of a setting of type []Secret, as Parse does.
func ReadSecrets(path string) ([]Secret, error) { return readInto[[]Secret](path) }

// WithoutMark is what a text file holds without the byte order mark that editors of
// Windows put before it, which would become part of its first line.
func WithoutMark(content []byte) []byte { return bytes.TrimPrefix(content, []byte("\ufeff")) }

func readInto[T any](path string) (value T, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return value, err
	}
	s := &setting{target: reflect.ValueOf(&value).Elem()}
	if err := s.decodeContent(content); err != nil {
		return value, fmt.Errorf("the content of %s (not shown) cannot be used", path)
	}
	return value, nil
}

// files returns what was given as files.
func (r *reader) files() Files {
	files := Files{}
	for s, path := range r.given {
		if s.fileOf != nil {
			files[s.fileOf.env] = path
		}
	}
	return files
}

// fillFiles sets the fields of type Files within v.
func fillFiles(v reflect.Value, files Files) {
	v = reflect.Indirect(v)
	switch {
	case v.IsValid() && v.Type() == reflect.TypeFor[Files]():
		v.Set(reflect.ValueOf(files))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillFiles(v.Field(i), files)
			}
		}
	}
}
