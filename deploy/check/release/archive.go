package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name    string // without a leading slash
	mode    int64
	path    string // of the file on this machine; empty: content
	link    string // what it is a symbolic link to; empty: it is a file
	content []byte
}

// writeTar writes an archive that depends on nothing but what is in it: the files in
// the order given, each after the folders that it is in, all of one owner and time.
func writeTar(w io.Writer, entries []entry, at time.Time) error {
	archive := tar.NewWriter(w)
	made := map[string]bool{".": true}
	for _, e := range entries {
		if err := addFolders(archive, path.Dir(e.name), made, at); err != nil {
			return err
		}
		if err := addFile(archive, e, at); err != nil {
			return err
		}
	}
	return archive.Close()
}

func addFolders(archive *tar.Writer, folder string, made map[string]bool, at time.Time) error {
	if made[folder] {
		return nil
	}
	if err := addFolders(archive, path.Dir(folder), made, at); err != nil {
		return err
	}
	made[folder] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: at, Format: tar.FormatPAX})
}

func addFile(archive *tar.Writer, e entry, at time.Time) error {
	header := tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: at, Format: tar.FormatPAX}
	if e.link != "" {
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		return archive.WriteHeader(&header)
	}
	if e.path == "" {
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		_, err := archive.Write(e.content)
		return err
	}
	file, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	about, err := file.Stat()
	if err != nil {
		return err
	}
	header.Size = about.Size()
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// writeTarFile writes such an archive to a file, compressed if its name says so.
func writeTarFile(name string, entries []entry, at time.Time) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	switch filepath.Ext(name) {
	case ".gz", ".tgz":
		compressed := gzip.NewWriter(file)
		return errors.Join(writeTar(compressed, entries, at), compressed.Close())
	}
	return writeTar(file, entries, at)
}
