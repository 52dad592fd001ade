/** Device slots, which describe the blob devices for the kernel. They follow the superblocks. */
import { text, u32, zeros } from '../../binary/fields.ts';
import { struct } from '../../binary/struct.ts';
import { BLOCK, DEVICE_TABLE_OFFSET, EROFS_H } from './layout.ts';

export const DEVICE_SLOT = struct('erofs_deviceslot', EROFS_H, 128, {
  tag: text(0, 64, 'tag', 'the blob_id of the same entry of the blob table'),
  blocks: u32(64, 'blocks', 'of the device'),
  mapped: u32(68, 'mapped_blkaddr', 'first block of the device in the flat address space of all devices'),
  reserved: zeros(72, 56),
});

/** devt_slotoff, in units of a slot. */
export const DEVICE_SLOT_OFFSET: number = DEVICE_TABLE_OFFSET / DEVICE_SLOT.size;

/** Offset of slot `index`, which is also the end of `index` slots. */
export const deviceSlotAt = (index: number): number => DEVICE_TABLE_OFFSET + index * DEVICE_SLOT.size;

/** `mapped`: first block of the device in the flat address space of all devices. */
export function writeDeviceSlot(
  out: Buffer,
  index: number,
  { id, uncompressedSize }: { readonly id: string; readonly uncompressedSize: number },
  mapped: number,
): void {
  DEVICE_SLOT.encode(out, deviceSlotAt(index), { tag: id, blocks: uncompressedSize / BLOCK, mapped });
}
