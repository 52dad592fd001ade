/** Beginnings of the sha256 of what each choice makes of the fixture tame-mini: the bootstrap, and the layers before it. */
export const PINNED: Readonly<Record<string, { readonly bootstrap: string; readonly layers: readonly string[] }>> = {
  default: { bootstrap: 'ca2087d9b7b0100a', layers: ['2a791c9199a815ed', '50365b8194b77e7d', '4c1bc9b3e19a0f2b'] },
  'chunk 4 KiB': {
    bootstrap: 'ef995da154f5a445',
    layers: ['a28699de4d44a71b', '92eed2f51699f347', '6bd9df821a030060'],
  },
  'chunk 1 MiB': {
    bootstrap: 'ea2f866f6b9f080a',
    layers: ['64d2140b32e7d9b2', '2eee96fb0e72334c', '4c1bc9b3e19a0f2b'],
  },
  'chunk 16 MiB, level 9': {
    bootstrap: 'f2deaf3556077bdd',
    layers: ['c3149daa0cdb46c0', '534378a02ff57384', 'df1184439af93198'],
  },
  lz4: { bootstrap: '47f0ff6cfc031757', layers: ['c26e4639b8ebc832', '7b676781a81796d5', '8f8cde52938ba53d'] },
  none: { bootstrap: '97f7cd706c7802d0', layers: ['06d0c8f9a33d2302', '661a3b556e9a21a3', '3a8260e945324adf'] },
  sha256: { bootstrap: 'a22da6216771a67d', layers: ['bdad84645e911582', 'ad1b0e0efd5c9cbb', 'c9d642c19683fc3b'] },
  'batch 128 KiB': {
    bootstrap: '3a5c75ded4291981',
    layers: ['69708649d120aa1c', '0c60a2b3c9bdd5b6', '98607e5cf8ea4b1e'],
  },
  'batch 4 KiB of none': {
    bootstrap: '01fbe21baf4b0775',
    layers: ['b164c1f11ddff076', '54fcd2cd4f604f46', '02b7fc14103102a9'],
  },
  'batch 1 MiB of lz4, separate': {
    bootstrap: 'd7365fcaaba6bfb1',
    layers: [
      '9cea56595b9d02fa',
      'a7d8173e56bd11f9',
      'b4133809cc37e9e9',
      '1d8d617e409ac515',
      '0c6e846ef226e642',
      '92327bbf1cf4131a',
    ],
  },
  separate: {
    bootstrap: 'c8ac3bd1fdc2b05f',
    layers: [
      '90391f1b928613c1',
      'ae027d3f8fb97089',
      'e4fe95b63c466943',
      '893baa5525079834',
      '8c269e306271ad23',
      '9c3bb9804ce5b34f',
    ],
  },
  prefetch: { bootstrap: '08a40fbe30b3be0e', layers: ['64d2140b32e7d9b2', '2eee96fb0e72334c', '4c1bc9b3e19a0f2b'] },
  align: { bootstrap: '9c6f16902574933d', layers: ['2a791c9199a815ed', '50365b8194b77e7d', '4c1bc9b3e19a0f2b'] },
  'dedup image': {
    bootstrap: '9240ae58d019d4ac',
    layers: ['bdad84645e911582', '65acbf9d0129474f', '6daf7e95ebe0500c'],
  },
  'oci-ref': { bootstrap: '517fdf130d7416db', layers: ['5b8db2f9c998ed1a', 'e15ef266970b14df', '4b8e9830d87db74d'] },
};
