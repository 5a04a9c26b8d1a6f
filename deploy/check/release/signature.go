package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// signer signs with ECDSA on P-256 and SHA-256, as cosign and openssl verify it.
// The same text has the same signature (RFC 6979).
type signer struct{ key *ecdsa.PrivateKey }

// newSigner reads a private key in PEM (PKCS #8 or SEC 1).
func newSigner(file string) (*signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: expected a private key in PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			// The parser's error may say something of the key.
			return nil, fmt.Errorf("%s: expected a private key that is not encrypted", file)
		}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: expected an ECDSA key on P-256", file)
	}
	return &signer{key}, nil
}

// sign returns the signature of a text, in the form of ASN.1.
func (s *signer) sign(text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return s.key.Sign(nil, digest[:], crypto.SHA256)
}

// Sign implements dsse.Signer.
func (s *signer) Sign(_ context.Context, text []byte) ([]byte, error) { return s.sign(text) }

// Verify implements dsse.Verifier.
func (s *signer) Verify(_ context.Context, text, signature []byte) error {
	digest := sha256.Sum256(text)
	if !ecdsa.VerifyASN1(&s.key.PublicKey, digest[:], signature) {
		return errors.New("it is not the signature")
	}
	return nil
}

// Public implements dsse.Verifier.
func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

// KeyID implements dsse.SignerVerifier: the SHA-256 of the public key.
func (s *signer) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:]), err
}

// envelope returns a statement, signed, in the form of DSSE.
func (s *signer) envelope(ctx context.Context, statement []byte) ([]byte, error) {
	envelopes, err := dsse.NewEnvelopeSigner(s)
	if err != nil {
		return nil, err
	}
	signed, err := envelopes.SignPayload(ctx, "application/vnd.in-toto+json", statement)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signed)
}

// Media type and annotation of signatures that cosign finds beside an image
// (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md).
const (
	simpleSigning       = types.MediaType("application/vnd.dev.cosign.simplesigning.v1+json")
	signatureAnnotation = "dev.cosignproject.cosign/signature"
)

// image returns the signature of an image by its digest, to be pushed beside it.
func (s *signer) image(reference string, digest v1.Hash) (v1.Image, error) {
	payload, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": reference},
			"image":    map[string]string{"docker-manifest-digest": digest.String()},
			"type":     "cosign container image signature",
		},
		"optional": nil,
	})
	if err != nil {
		return nil, err
	}
	signature, err := s.sign(payload)
	if err != nil {
		return nil, err
	}
	layer := static.NewLayer(payload, simpleSigning)
	diff, err := layer.DiffID()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(v1.ConfigFile{RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diff}}})
	if err != nil {
		return nil, err
	}
	return newArtefact(types.OCIConfigJSON, config, layer,
		map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(signature)}, nil)
}

// signatureTag is where cosign looks for the signature of an image.
func signatureTag(digest v1.Hash) string { return digest.Algorithm + "-" + digest.Hex + ".sig" }
