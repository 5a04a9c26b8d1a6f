package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// file is one that goes into the image.
type file struct {
	source string // on this machine
	path   string // in the image, without a leading slash
	mode   int64
}

func programFile(source string) file {
	return file{source: source, path: filepath.Base(source), mode: 0o755}
}

// checkStatic refuses a program that needs a loader: there is none in the image.
func checkStatic(program string) error {
	binary, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("%s: expected a Linux program: %w", program, err)
	}
	defer func() { _ = binary.Close() }()
	if slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("%s is dynamically linked: build it with CGO_ENABLED=0", program)
	}
	return nil
}

// layer is the image's only file system layer.
type layer struct {
	compressed []byte
	diffID     string // digest of what was compressed
}

func newLayer(files []file) (layer, error) {
	var compressed bytes.Buffer
	digest := sha256.New()
	zip := gzip.NewWriter(&compressed)
	archive := tar.NewWriter(io.MultiWriter(zip, digest))
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := addFolders(archive, path.Dir(f.path), made); err != nil {
			return layer{}, err
		}
		content, err := os.ReadFile(f.source)
		if err != nil {
			return layer{}, err
		}
		if err := addEntry(archive, tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: f.mode}, content); err != nil {
			return layer{}, err
		}
	}
	if err := archive.Close(); err != nil {
		return layer{}, err
	}
	if err := zip.Close(); err != nil {
		return layer{}, err
	}
	return layer{compressed: compressed.Bytes(), diffID: "sha256:" + hex.EncodeToString(digest.Sum(nil))}, nil
}

// addFolders adds a folder and those above it, once.
func addFolders(archive *tar.Writer, folder string, made map[string]bool) error {
	if made[folder] {
		return nil
	}
	if err := addFolders(archive, path.Dir(folder), made); err != nil {
		return err
	}
	made[folder] = true
	return addEntry(archive, tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755}, nil)
}

// addEntry gives every entry the same owner and time, so that an archive
// depends on nothing but what is in it.
func addEntry(archive *tar.Writer, header tar.Header, content []byte) error {
	header.Size, header.ModTime, header.Format = int64(len(content)), time.Unix(0, 0), tar.FormatPAX
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}
