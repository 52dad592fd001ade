/** File name below `src/grpc/messages` → its text, as the `.proto` files have it now. */
export function generate(): Map<string, string>;
