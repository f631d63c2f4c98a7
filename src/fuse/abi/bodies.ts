import {
  cuse_init_in,
  cuse_init_out,
  fuse_access_in,
  fuse_attr_out,
  fuse_batch_forget_in,
  fuse_bmap_in,
  fuse_bmap_out,
  fuse_copy_file_range_in,
  fuse_copy_file_range_out,
  fuse_create_in,
  fuse_entry_out,
  fuse_fallocate_in,
  fuse_flush_in,
  fuse_forget_in,
  fuse_fsync_in,
  fuse_getattr_in,
  fuse_getxattr_in,
  fuse_getxattr_out,
  fuse_init_in,
  fuse_init_out,
  fuse_interrupt_in,
  fuse_ioctl_in,
  fuse_ioctl_out,
  fuse_link_in,
  fuse_lk_in,
  fuse_lk_out,
  fuse_lseek_in,
  fuse_lseek_out,
  fuse_mkdir_in,
  fuse_mknod_in,
  fuse_notify_retrieve_in,
  fuse_open_in,
  fuse_open_out,
  fuse_poll_in,
  fuse_poll_out,
  fuse_read_in,
  fuse_release_in,
  fuse_removemapping_in,
  fuse_rename_in,
  fuse_rename2_in,
  fuse_setattr_in,
  fuse_setupmapping_in,
  fuse_setxattr_in,
  fuse_statfs_out,
  fuse_statx_in,
  fuse_statx_out,
  fuse_syncfs_in,
  fuse_write_in,
  fuse_write_out,
  type ViewOf,
  type WireForm,
} from './structs.ts';

// One cursor per struct of a request and of a reply, by its C name without 'fuse_'. Whoever decodes or encodes moves the one that the
// operation has, and leaves the others where they are.

export class RequestBodies {
  readonly forget_in: ViewOf<typeof fuse_forget_in> = fuse_forget_in.view();
  readonly getattr_in: ViewOf<typeof fuse_getattr_in> = fuse_getattr_in.view();
  readonly setattr_in: ViewOf<typeof fuse_setattr_in> = fuse_setattr_in.view();
  readonly mknod_in: ViewOf<typeof fuse_mknod_in> = fuse_mknod_in.view();
  readonly mkdir_in: ViewOf<typeof fuse_mkdir_in> = fuse_mkdir_in.view();
  readonly rename_in: ViewOf<typeof fuse_rename_in> = fuse_rename_in.view();
  readonly link_in: ViewOf<typeof fuse_link_in> = fuse_link_in.view();
  readonly open_in: ViewOf<typeof fuse_open_in> = fuse_open_in.view();
  readonly read_in: ViewOf<typeof fuse_read_in> = fuse_read_in.view();
  readonly write_in: ViewOf<typeof fuse_write_in> = fuse_write_in.view();
  readonly release_in: ViewOf<typeof fuse_release_in> = fuse_release_in.view();
  readonly fsync_in: ViewOf<typeof fuse_fsync_in> = fuse_fsync_in.view();
  readonly setxattr_in: ViewOf<typeof fuse_setxattr_in> = fuse_setxattr_in.view();
  readonly getxattr_in: ViewOf<typeof fuse_getxattr_in> = fuse_getxattr_in.view();
  readonly flush_in: ViewOf<typeof fuse_flush_in> = fuse_flush_in.view();
  readonly init_in: ViewOf<typeof fuse_init_in> = fuse_init_in.view();
  readonly lk_in: ViewOf<typeof fuse_lk_in> = fuse_lk_in.view();
  readonly access_in: ViewOf<typeof fuse_access_in> = fuse_access_in.view();
  readonly create_in: ViewOf<typeof fuse_create_in> = fuse_create_in.view();
  readonly interrupt_in: ViewOf<typeof fuse_interrupt_in> = fuse_interrupt_in.view();
  readonly bmap_in: ViewOf<typeof fuse_bmap_in> = fuse_bmap_in.view();
  readonly ioctl_in: ViewOf<typeof fuse_ioctl_in> = fuse_ioctl_in.view();
  readonly poll_in: ViewOf<typeof fuse_poll_in> = fuse_poll_in.view();
  readonly notify_retrieve_in: ViewOf<typeof fuse_notify_retrieve_in> = fuse_notify_retrieve_in.view();
  readonly batch_forget_in: ViewOf<typeof fuse_batch_forget_in> = fuse_batch_forget_in.view();
  readonly fallocate_in: ViewOf<typeof fuse_fallocate_in> = fuse_fallocate_in.view();
  readonly rename2_in: ViewOf<typeof fuse_rename2_in> = fuse_rename2_in.view();
  readonly lseek_in: ViewOf<typeof fuse_lseek_in> = fuse_lseek_in.view();
  readonly copy_file_range_in: ViewOf<typeof fuse_copy_file_range_in> = fuse_copy_file_range_in.view();
  readonly setupmapping_in: ViewOf<typeof fuse_setupmapping_in> = fuse_setupmapping_in.view();
  readonly removemapping_in: ViewOf<typeof fuse_removemapping_in> = fuse_removemapping_in.view();
  readonly syncfs_in: ViewOf<typeof fuse_syncfs_in> = fuse_syncfs_in.view();
  readonly statx_in: ViewOf<typeof fuse_statx_in> = fuse_statx_in.view();
  readonly cuse_init_in: ViewOf<typeof cuse_init_in> = cuse_init_in.view();
}

export class ReplyBodies {
  readonly entry_out: ViewOf<typeof fuse_entry_out> = fuse_entry_out.view();
  readonly attr_out: ViewOf<typeof fuse_attr_out> = fuse_attr_out.view();
  readonly open_out: ViewOf<typeof fuse_open_out> = fuse_open_out.view();
  readonly write_out: ViewOf<typeof fuse_write_out> = fuse_write_out.view();
  readonly statfs_out: ViewOf<typeof fuse_statfs_out> = fuse_statfs_out.view();
  readonly getxattr_out: ViewOf<typeof fuse_getxattr_out> = fuse_getxattr_out.view();
  readonly init_out: ViewOf<typeof fuse_init_out> = fuse_init_out.view();
  readonly lk_out: ViewOf<typeof fuse_lk_out> = fuse_lk_out.view();
  readonly bmap_out: ViewOf<typeof fuse_bmap_out> = fuse_bmap_out.view();
  readonly ioctl_out: ViewOf<typeof fuse_ioctl_out> = fuse_ioctl_out.view();
  readonly poll_out: ViewOf<typeof fuse_poll_out> = fuse_poll_out.view();
  readonly lseek_out: ViewOf<typeof fuse_lseek_out> = fuse_lseek_out.view();
  readonly statx_out: ViewOf<typeof fuse_statx_out> = fuse_statx_out.view();
  readonly copy_file_range_out: ViewOf<typeof fuse_copy_file_range_out> = fuse_copy_file_range_out.view();
  readonly cuse_init_out: ViewOf<typeof cuse_init_out> = cuse_init_out.view();
}

/** A cursor whose struct is known to the table only. */
export interface AnyCursor {
  at(bytes: Uint8Array, offset: number): unknown;
}

/** The cursor of a struct among `bodies`. */
export function cursorOf(bodies: RequestBodies | ReplyBodies, form: WireForm): AnyCursor {
  return (bodies as unknown as Record<string, AnyCursor>)[form.name.replace(/^fuse_/, '')] as AnyCursor;
}
