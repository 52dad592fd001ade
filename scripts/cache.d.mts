export declare const checkout: string;
export declare function cacheDir(): string;
export declare function demoImageDir(): string;
export declare function oracleSources(name: string): string;
export declare function oraclePath(name: string): string;
