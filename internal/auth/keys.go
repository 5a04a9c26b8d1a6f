package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/neolith/daemon-gateway/internal/settings"
)

const (
	// maxPublicKeys bounds how many keys a token without key id is tried with.
	maxPublicKeys = 32
	// RSA keys outside of these can be factored, or take long to verify with.
	minRSABits, maxRSABits = 2048, 8192
)

// Keys are what tokens may be signed with. They are immutable; the zero Keys
// verify nothing.
type Keys struct {
	secrets []jwt.VerificationKey
	signers []*signer // of the same secrets
	public  []PublicKey
	pending bool
}

// PublicKey verifies the tokens of one algorithm, which is that of its type: a
// token that names another one, as HS256 with the public key for a secret, is not
// tried with it.
type PublicKey struct {
	// ID is the key's kid; empty where it has none, and then it is tried for any.
	ID        string
	algorithm string
	key       crypto.PublicKey
}

// NewKeys returns the keys of an edge. pending says that there are public keys
// that could not be read yet, so that tokens are not judged by their absence.
func NewKeys(secrets []settings.Secret, public []PublicKey, pending bool) *Keys {
	k := &Keys{public: slices.Clone(public), pending: pending}
	for _, secret := range secrets {
		k.secrets = append(k.secrets, []byte(secret))
		k.signers = append(k.signers, newSigner([]byte(secret)))
	}
	return k
}

// algorithms are the ones that a token may name.
func (k *Keys) algorithms() []string {
	var list []string
	if len(k.secrets) > 0 {
		list = append(list, jwt.SigningMethodHS256.Alg())
	}
	if len(k.public) > 0 || k.pending {
		list = append(list, jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg())
	}
	return list
}

// candidates returns the keys that may have signed a token that names this
// algorithm and key, or why there are none.
func (k *Keys) candidates(algorithm, id string) ([]jwt.VerificationKey, Reason) {
	if !slices.Contains(k.algorithms(), algorithm) {
		return nil, ReasonWrongAlgorithm
	}
	if algorithm == jwt.SigningMethodHS256.Alg() {
		return k.secrets, ""
	}
	named := k.named(id)
	var list []jwt.VerificationKey
	for _, p := range named {
		if p.algorithm == algorithm {
			list = append(list, p.key)
		}
	}
	switch {
	case len(list) > 0:
		return list, ""
	case k.pending:
		return nil, ReasonKeysUnavailable
	case len(named) == 0:
		return nil, ReasonUnknownKey
	}
	return nil, ReasonWrongAlgorithm
}

// named returns the keys with an id, and those without any.
func (k *Keys) named(id string) []PublicKey {
	if id == "" {
		return k.public
	}
	var list []PublicKey
	for _, p := range k.public {
		if p.ID == id || p.ID == "" {
			list = append(list, p)
		}
	}
	return list
}

// ParsePEM returns the public keys of a file, also those in certificates.
func ParsePEM(data []byte) ([]PublicKey, error) {
	var keys []PublicKey
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		parsed, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		key, err := newPublicKey("", parsed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return enough(keys)
}

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	}
	// The type is not quoted: what stands there is whatever the file holds.
	return nil, errors.New("holds something else than public keys and certificates")
}

// ParseJWKS returns the keys of a JSON Web Key Set that verify signatures, and
// how many others it has. Those are passed over, as RFC 7517 wants it: secrets
// among them, which do not belong into a set that is public.
func ParseJWKS(data []byte) (keys []PublicKey, others int, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(data, &set) != nil {
		return nil, 0, errors.New("is not a JSON Web Key Set")
	}
	for _, text := range set.Keys {
		key, err := parseJWK(text)
		if err != nil {
			others++
			continue
		}
		keys = append(keys, key)
	}
	keys, err = enough(keys)
	return keys, others, err
}

var errOther = errors.New("not a key that verifies tokens")

func parseJWK(text []byte) (PublicKey, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(text, &m); err != nil {
		return PublicKey{}, err
	}
	if m.USE != "" && m.USE != jwkset.UseSig {
		return PublicKey{}, errOther
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return PublicKey{}, errOther
	}
	parsed, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return PublicKey{}, err
	}
	key, err := newPublicKey(m.KID, parsed.Key())
	if err == nil && m.ALG != "" && string(m.ALG) != key.algorithm {
		return PublicKey{}, errOther
	}
	return key, err
}

// newPublicKey takes a key with the one algorithm that we use its type with.
func newPublicKey(id string, parsed any) (PublicKey, error) {
	switch key := parsed.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return PublicKey{}, fmt.Errorf("holds an RSA key of %d bits, expected %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return PublicKey{}, errors.New("holds an RSA key with an impossible exponent")
		}
		return PublicKey{ID: id, algorithm: jwt.SigningMethodRS256.Alg(), key: key}, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return PublicKey{}, errors.New("holds a key on another curve than P-256")
		}
		if _, err := key.ECDH(); err != nil {
			return PublicKey{}, errors.New("holds a key that is not on its curve")
		}
		return PublicKey{ID: id, algorithm: jwt.SigningMethodES256.Alg(), key: key}, nil
	case ed25519.PublicKey:
		return PublicKey{ID: id, algorithm: jwt.SigningMethodEdDSA.Alg(), key: key}, nil
	}
	return PublicKey{}, errors.New("holds a key of another kind than RSA, P-256 or Ed25519")
}

func enough(keys []PublicKey) ([]PublicKey, error) {
	switch {
	case len(keys) == 0:
		return nil, errors.New("holds no public key for RS256, ES256 or EdDSA")
	case len(keys) > maxPublicKeys:
		return nil, fmt.Errorf("holds %d public keys, expected at most %d", len(keys), maxPublicKeys)
	}
	return keys, nil
}
