export declare const checkout: string;
export declare function cacheDir(): string;
export declare function demoImageDir(): string;
export declare const ORACLES: Readonly<
  Record<
    'go-erofs-walk' | 'erofs-rs-walk' | 'crictl' | 'containerd-nydus-grpc' | 'nydus-mount' | 'nydus-image' | 'nydusd',
    string
  >
>;
export declare function oracleSources(folder: string): string;
export declare function oraclePath(name: keyof typeof ORACLES): string;
