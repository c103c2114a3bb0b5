package reapi

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"distro.internal/shared/cas"
)

// Keys and actions
//
// Results are kept in a server's action cache under the digest of a message, an Action: a command, and a folder of files
// that it is run on. Here they are kept under the digest of a text, a cas.Key, which lists all that the result is a
// function of. One of them must be made of the other.
//
// A digest of 32 bytes could be taken for that of an action which nobody has ever seen; some servers would store
// anything under it. But then nobody could look: the browsers of these servers, and the programs that people have for
// finding out why there was no hit, show actions. So there is a true one. Its folder has one file, which is called key
// and is the text; its command is the kind of the key, given that file. All three messages are uploaded and so is the
// text, whose digest in the folder is the very one by which the result is known here:
//
//	Action       <- the name in the action cache
//	  Command    tree/1 key                 -> out/..., result.json
//	  Directory
//	    key      <- the name in a folder; "plan 4fd1..., package gcc Q1..., ..."
//
// So the two names are functions of each other's content, an old folder keeps its results, and two machines which agree
// about the key agree about the action. What the command would need to be run by a stranger, a program and the files
// that the text names by their digests, is not in the folder: an executor will get it under another root, and what it
// makes will be recorded under this name, for which files a program brings along is no input of what it makes (the
// version in the kind is).
//
// The outputs are files below out, so that a server knows to keep them as long as the result. That result.json lists
// them once more, as the folder's own record does, has a reason: the order of outputs and the words about them mean
// something here, and have no place in the message.

// The names of files of an action.
const (
	keyFile    = "key"
	outFolder  = "out"
	recordFile = "result.json"
)

// An action is a key as a server has it.
type action struct {
	digest cas.Digest
	kind   string
	blobs  map[cas.Digest][]byte // the messages, and the key
}

// ActionOf is the name that the action of a key has on servers: what their browsers find it by.
func ActionOf(key *cas.Key) (cas.Digest, error) {
	a, err := actionOf(key)
	return a.digest, err
}

func actionOf(key *cas.Key) (action, error) {
	a := action{kind: key.Kind(), blobs: map[cas.Digest][]byte{}}
	command, err := a.add(&repb.Command{Arguments: []string{key.Kind(), keyFile}, OutputPaths: []string{outFolder, recordFile}})
	if err != nil {
		return a, err
	}
	text := key.Encode()
	file := cas.DigestOf(text)
	a.blobs[file] = text
	folder, err := a.add(&repb.Directory{Files: []*repb.FileNode{{Name: keyFile, Digest: message(file)}}})
	if err != nil {
		return a, err
	}
	a.digest, err = a.add(&repb.Action{CommandDigest: message(command), InputRootDigest: message(folder)})
	return a, err
}

func (a *action) add(m proto.Message) (cas.Digest, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return cas.Digest{}, err
	}
	d := cas.DigestOf(b)
	a.blobs[d] = b
	return d, nil
}

// resultOf is a result as a server has it, and the record that it names.
func resultOf(r *cas.Result) (*repb.ActionResult, []byte, error) {
	record, err := r.Encode()
	if err != nil {
		return nil, nil, err
	}
	m := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: recordFile, Digest: message(cas.DigestOf(record))}}}
	for _, o := range r.Outputs {
		m.OutputFiles = append(m.OutputFiles, &repb.OutputFile{Path: path.Join(outFolder, o.Name), Digest: message(o.Digest)})
	}
	slices.SortFunc(m.OutputFiles, func(a, b *repb.OutputFile) int { return strings.Compare(a.Path, b.Path) })
	return m, record, nil
}

// recordOf finds the record of what a server calls a success: its name, and its content if the server sent it along.
func recordOf(m *repb.ActionResult) (cas.Digest, []byte, error) {
	if m.ExitCode != 0 {
		return cas.Digest{}, nil, fmt.Errorf("it is a failure, with exit code %d: %w", m.ExitCode, fs.ErrNotExist)
	}
	for _, f := range m.OutputFiles {
		if f.Path == recordFile {
			d, err := digest(f.Digest)
			return d, f.Contents, err
		}
	}
	return cas.Digest{}, nil, fmt.Errorf("it has no %s: %w", recordFile, fs.ErrNotExist)
}

func message(d cas.Digest) *repb.Digest { return &repb.Digest{Hash: d.Hash, SizeBytes: d.Size} }

func messages(list []cas.Digest) []*repb.Digest {
	all := make([]*repb.Digest, len(list))
	for i, d := range list {
		all[i] = message(d)
	}
	return all
}

func digest(m *repb.Digest) (cas.Digest, error) {
	return cas.ParseDigest(cas.Digest{Hash: m.GetHash(), Size: m.GetSizeBytes()}.String())
}

// distinct sorts digests, the smallest content first, and leaves each once.
func distinct(list []cas.Digest) []cas.Digest {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b cas.Digest) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.Hash, b.Hash))
	})
	return slices.Compact(list)
}
