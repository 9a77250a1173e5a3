package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A network file system cannot be had in a test: its number can.
func TestFileSystems(t *testing.T) {
	t.Parallel()
	for number, remote := range map[uint32]bool{
		unix.NFS_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true,
		unix.EXT4_SUPER_MAGIC: false, unix.XFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false, unix.OVERLAYFS_SUPER_MAGIC: false,
	} {
		kind, got := fileSystem(number)
		require.Equal(t, remote, got, kind)
	}
	path := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	kind, remote, err := fileSystemOf(path)
	require.NoError(t, err)
	require.False(t, remote, "the temporary directory is on %s", kind)
	_, _, err = fileSystemOf(path + "/none")
	require.Error(t, err)
	require.Equal(t, Failure, fileSystemFinding("NFS, a network file system", true).verdict)
}
