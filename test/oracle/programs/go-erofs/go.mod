module lacuna.test/go-erofs-walk

go 1.26

require github.com/erofs/go-erofs v0.3.1
