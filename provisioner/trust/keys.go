package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
)

// Limits of what a policy names.
const (
	maxKeyFile = 64 << 10
	minRSABits = 2048
	maxRSABits = 8192
)

// material is what stands in a policy or in a file that it names.
type material struct {
	at   string // the key in the policy
	path string // "" is data
	data []byte
}

// materials reads the PEM documents of a requirement under the names
// PREFIXPath, PREFIXPaths, PREFIXData and PREFIXDatas, as far as one is there.
func materials(o object, key string) ([]material, error) {
	var out []material
	for _, k := range []string{key + "Path", key + "Paths", key + "Data", key + "Datas"} {
		if !o.has(k) {
			continue
		}
		m, err := materialsOf(o, k, k == key+"Path" || k == key+"Paths")
		if err != nil {
			return nil, err
		}
		out = append(out, m...)
	}
	return out, nil
}

func materialsOf(o object, key string, files bool) (out []material, err error) { //nolint:revive // paths and data have one form
	values := []string{""}
	if key[len(key)-1] == 's' {
		values, err = o.texts(key)
	} else {
		values[0], err = o.text(key)
	}
	if err != nil {
		return nil, err
	}
	for _, v := range values {
		m := material{at: o.path(key), path: v}
		if !files {
			m.path = ""
			if m.data, err = base64.StdEncoding.DecodeString(v); err != nil {
				return nil, invalid(m.at, "it is not base64: %v", err)
			}
		} else if v[0] != '/' {
			return nil, invalid(m.at, "%q is not an absolute path", v)
		}
		out = append(out, m)
	}
	return out, nil
}

// parseKey reads one public key in PEM.
func parseKey(raw []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("it holds no PEM block")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("there is more in it than one PEM block")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("it is a PEM block of type %q, not \"PUBLIC KEY\"", block.Type)
	}
	if err != nil {
		return nil, err
	}
	return key, checkKey(key)
}

// checkKey says whether verify can use a key.
func checkKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("its curve is %s (P-256 and P-384 are possible): %w", k.Curve.Params().Name, containerizer.ErrUnsupported)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits (%d to %d are possible): %w", n, minRSABits, maxRSABits, containerizer.ErrUnsupported)
		}
	default:
		return fmt.Errorf("a key of type %T (ECDSA, Ed25519 and RSA are possible): %w", key, containerizer.ErrUnsupported)
	}
	return nil
}

// verify says whether signature is one of message by key. As with cosign the hash
// is SHA-256, whatever the key.
func verify(key crypto.PublicKey, message, signature []byte) bool {
	sum := sha256.Sum256(message)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil {
			return true
		}
		return rsa.VerifyPSS(k, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	}
	return false
}
