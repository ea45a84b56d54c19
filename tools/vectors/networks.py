"""The networks of internal/train in PyTorch: for the recorded vectors and for bench-trainer."""
import torch.nn as nn
import torch.nn.functional as F


class Block9(nn.Module):
    def __init__(self, i, o, pool=False):
        super().__init__()
        self.c, self.b, self.pool = nn.Conv2d(i, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o), pool

    def forward(self, x):
        x = self.c(x)
        return F.relu(self.b(F.max_pool2d(x, 2) if self.pool else x))


class Residual9(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.a, self.b = Block9(o, o), Block9(o, o)

    def forward(self, x):
        return x + self.b(self.a(x))


class ResNet9(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.l = nn.Sequential(Block9(3, w), Block9(w, 2 * w, True), Residual9(2 * w),
                               Block9(2 * w, 4 * w, True), Block9(4 * w, 8 * w, True), Residual9(8 * w))

    def forward(self, x):
        return self.l(x).amax((2, 3))


class Basic(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    def __init__(self, w, units=(2, 2, 2, 2), imagenet=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, w, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.bn1, self.imagenet = nn.BatchNorm2d(w), imagenet
        i = w
        for k, n in enumerate(units):
            blocks = [Basic(i if u == 0 else w << k, w << k, 2 if k and u == 0 else 1) for u in range(n)]
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
            i = w << k

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = F.max_pool2d(x, 3, 2, 1)
        for k in range(4):
            x = getattr(self, f"layer{k + 1}")(x)
        return x.mean((2, 3))


class Wide(nn.Module):
    """A pre-activation block; the names are those of the code of Outlier Exposure."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.convShortcut = nn.Conv2d(i, o, 1, stride, bias=False) if i != o else None

    def forward(self, x):
        seen = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(seen))))
        return y + (x if self.convShortcut is None else self.convShortcut(seen))


class Stage(nn.Module):
    def __init__(self, i, o, stride, n):
        super().__init__()
        self.layer = nn.Sequential(*[Wide(i if k == 0 else o, o, stride if k == 0 else 1) for k in range(n)])

    def forward(self, x):
        return self.layer(x)


class WRN(nn.Module):
    def __init__(self, depth, widen, w=16):
        super().__init__()
        n, c = (depth - 4) // 6, [w, w * widen, 2 * w * widen, 4 * w * widen]
        self.conv1 = nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.block1, self.block2, self.block3 = (Stage(c[k], c[k + 1], 2 if k else 1, n) for k in range(3))
        self.bn1 = nn.BatchNorm2d(c[3])

    def forward(self, x):
        return F.relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x)))))).mean((2, 3))
