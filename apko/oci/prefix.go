package oci

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"hash"

	"distro.internal/shared/cas"
)

// Beginnings
//
// To hash a layer is all that a new combination of known packages costs, and there is no way to make the SHA-256 of a
// whole of those of its parts. But it is computed from front to end, and what is computed up to some point depends on
// nothing that comes after it: the state of the computation, 108 bytes, is the same for every layer that begins with the
// same blobs. It is kept now and then, under the digests of these blobs, and a layer is hashed from the last state on
// that is kept of its beginning. What is skipped was read and verified when the state was made, and is once more whenever
// the layer is written somewhere.

// stride is how many bytes are hashed between two states that are kept: about as long as keeping one takes.
const stride = 32 << 20

// hashBlobs is the digest of the blobs behind one another.
func hashBlobs(ctx context.Context, store cas.Store, blobs []Blob) (string, error) {
	keys := beginnings(blobs)
	h, n := resume(store, keys)
	since := int64(0)
	for i := n; i < len(blobs); i++ {
		if err := errors.Join(ctx.Err(), copyBlob(h, store, blobs[i])); err != nil {
			return "", err
		}
		if since += blobs[i].Size; since >= stride {
			since = 0
			if err := keepState(store, keys[i], h); err != nil {
				return "", err
			}
		}
	}
	return digest(h.Sum(nil)), nil
}

// beginnings are the names of the states after each of the blobs.
func beginnings(blobs []Blob) []cas.Digest {
	keys := make([]cas.Digest, len(blobs))
	before := cas.Digest{}
	for i, b := range blobs {
		k := cas.NewKey("oci beginning")
		k.Add("before", before.String())
		k.Add("blob", b.Digest.String())
		before = k.Digest()
		keys[i] = before
	}
	return keys
}

// resume takes up the hashing after the most blobs for which a state is kept, and tells their number.
func resume(store cas.Store, keys []cas.Digest) (h hash.Hash, n int) {
	h = sha256.New()
	for n := len(keys); n > 0; n-- {
		r, err := store.Result(keys[n-1])
		if err != nil {
			continue
		}
		state, err := hex.DecodeString(r.Metadata["sha256"])
		if err == nil && h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state) == nil {
			return h, n
		}
		h.Reset() // kept by another release of Go, which writes states otherwise
	}
	return h, 0
}

func keepState(store cas.Store, key cas.Digest, h hash.Hash) error {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	return store.SetResult(key, &cas.Result{Metadata: map[string]string{"sha256": hex.EncodeToString(state)}})
}
