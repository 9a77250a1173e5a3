package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileSystemOf names the file system of a file. remote reports whether other machines can use the
// file system too.
func fileSystemOf(path string) (kind string, remote bool, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return "", false, fmt.Errorf("file system of %q: %w", path, err)
	}
	// The number has 32 bits. The field's size and sign differ by platform.
	kind, remote = fileSystem(uint32(stat.Type))
	return kind, remote, nil
}

// fileSystem names the file system of that number, by which statfs calls it. Only the numbers of
// network file systems are known. So every other one counts as local, and a network file system
// that is missing here is not found.
func fileSystem(number uint32) (kind string, remote bool) {
	kind, remote = map[uint32]string{
		unix.NFS_SUPER_MAGIC:   "NFS",
		unix.SMB_SUPER_MAGIC:   "SMB",
		unix.CIFS_SUPER_MAGIC:  "CIFS",
		unix.SMB2_SUPER_MAGIC:  "SMB 2",
		unix.AFS_SUPER_MAGIC:   "AFS",
		unix.AFS_FS_MAGIC:      "AFS",
		unix.CODA_SUPER_MAGIC:  "Coda",
		unix.NCP_SUPER_MAGIC:   "NCP",
		unix.CEPH_SUPER_MAGIC:  "Ceph",
		unix.OCFS2_SUPER_MAGIC: "OCFS2",
	}[number], false
	if kind != "" {
		return kind + ", a network file system", true
	}
	return fmt.Sprintf("a local one (%#x)", number), false
}
